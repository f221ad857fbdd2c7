"""How wrong a judge is: its verdicts beside those of people."""
