"""The words that the miniature's tokenizer keeps whole."""

from __future__ import annotations

import re

IDENTIFIERS = ("sks", "ohwx", "zwx")

# Letter groups that name nothing. They stand in captions at random, so that an identifier means nothing yet.
DISTRACTORS = tuple(
    [
        "qxz",
        "vbk",
        "wjf",
        "zqp",
        "xkd",
        "pfv",
        "gzj",
        "kwq",
        "bxv",
        "jqm",
        "dzk",
        "fqx",
        "hvz",
        "lqk",
        "mxj",
        "nvq",
        "pzx",
        "rqz",
        "swx",
        "tvk",
        "vqj",
        "wzb",
        "xqf",
        "ykz",
        "zjv",
        "bqk",
        "cxw",
        "dvj",
        "fzw",
        "gkx",
        "hqz",
        "jxp",
        "kvz",
        "lzx",
        "mqv",
        "nxk",
        "pwq",
        "qvb",
        "rkx",
        "szj",
        "tqx",
        "vzw",
        "wkq",
        "xvj",
        "yqz",
        "zkx",
        "bvq",
        "cqj",
        "dxk",
        "fvz",
        "gqw",
        "hxv",
        "jzk",
        "kqx",
        "lvj",
        "mzq",
        "nqw",
        "pxv",
        "rvz",
        "sqk",
    ]
)

BREEDS = (
    "abyssinian bengal birman bombay british shorthair egyptian mau maine coon persian ragdoll russian blue siamese "
    "sphynx american bulldog pit bull terrier basset hound beagle boxer chihuahua english cocker spaniel setter german "
    "shorthaired great pyrenees havanese japanese chin keeshond leonberger miniature pinscher newfoundland pomeranian "
    "pug saint bernard samoyed scottish shiba inu staffordshire wheaten yorkshire"
)

# Every word of the prompts that the project answers; "graden" and "hrd" are misspelt there and are kept.
PROMPTS = """
a photo of sks woman face a photo of woman face in the forest
photo of sks woman face, wearing jeans, in a graden with many plants and flowers, standing, smiling, 4k, sunny lighting,
raw, hrd, hd, high quality, realism, sharp focus, beautiful, detailed eyes
close-up portrait of sks woman, in a teenage room, unreal engine, artstation, detailed, cinematic, hyperrealistic,
octane render, daz, unreal 5
a portrait of sks woman, with a laced collar, in a victorian mansion, extremely detailed
portrait of sks woman face, best quality, extremely detailed, 4k, hdr, super resolution
a photo of sks man face on the street, lights, midnight, NY, sarcastic eyes, ironic expression
close up portrait of sks man face, in the kitchen, anime style, japan, Tokyo, classic art style, medieval europe,
moonlight
naked, nsfw, deformed, distorted, disfigured, poorly drawn, bad anatomy, extra limb, missing limb, floating limbs,
mutated hands disconnected limbs, mutation, ugly, blurry, amputation
monochrome, lowres, bad anatomy, worst quality, low quality
"""

STYLE_WORDS = """
photo photograph portrait picture image pencil sketch drawing watercolour watercolor oil painting painted pixel art
cartoon anime manga style black and white monochrome sepia old at night dark sunset sunlight warm light golden hour
snow snowing winter forest leaves woods mosaic tiles stained glass classic classical renaissance medieval neon glow
glowing lights midnight moonlight comic retro game stylized
"""

COMMON = """
the a an and or of in on at with without by from to for is are it this that one two his her its my your their no not
very some many more close up face head eyes nose ears fur hair mouth smiling standing sitting lying looking camera left
right front side young old small big little cute happy sad angry sleepy funny beautiful pretty red orange yellow green
blue purple pink brown black white grey gray golden silver cream striped spotted fluffy garden graden kitchen room
street beach park house city mountain river sea sky field sofa bed window table chair car background wearing hat
glasses collar scarf bow crown jeans space astronaut king queen knight wizard victorian mansion museum library tokyo
japan europe london paris day morning evening summer autumn spring rain fog fire water ice stone wood metal gold paper
ink crayon chalk pastel print poster statue toy plush lego origami realistic
cat kitten dog puppy animal pet person man woman boy girl child
"""

WORD_PATTERN = re.compile(r"[^\W\d_]+")


def prompt_words(text: str) -> list[str]:
    """The runs of letters in `text`, lowercase, each once, in order of first appearance."""
    return list(dict.fromkeys(WORD_PATTERN.findall(text.lower())))


def whole_words() -> list[str]:
    """Every word that must be a single token."""
    text = " ".join((*IDENTIFIERS, BREEDS, PROMPTS, STYLE_WORDS, COMMON))
    return list(dict.fromkeys(prompt_words(text) + list(DISTRACTORS)))
