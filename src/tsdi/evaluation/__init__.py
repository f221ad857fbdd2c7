"""From prompts to answers on disk, and from judged answers to figures with intervals."""
