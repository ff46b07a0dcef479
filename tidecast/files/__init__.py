"""Files of readings as people have them -> tables of text, times and numbers.

``opening`` finds bytes behind a path, ``dialect`` how they are laid out, ``table`` reads them,
``times`` and ``numbers`` read columns, ``layout`` finds which column is what. All of them guess
from what is there, say what they guessed, and refuse what may be read in two ways.
"""
