"""The perceptual loss: J of Gatys, Ecker and Bethge 2016, through VGG19. Descended on by ``gatys`` and ``stylizer``."""
