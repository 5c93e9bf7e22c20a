"""Neural style transfer: Gatys' optimisation, and the feed-forward stylizer that people deploy."""
