"""Style transfer by optimisation: gradient descent on the pixels of one picture (Gatys, Ecker and Bethge 2016)."""
