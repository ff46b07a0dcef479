"""Files as people have them, through the public commands: ``make cases CASES=folder``."""
