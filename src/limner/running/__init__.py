"""A study's run: its plan, who carries it out, what is heard of it and said to it, and whose folder it is."""
