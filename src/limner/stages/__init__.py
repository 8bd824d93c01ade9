"""The stages of the corridor: each takes artefacts and leaves one."""
