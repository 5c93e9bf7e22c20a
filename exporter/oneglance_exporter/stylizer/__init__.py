"""The stylizer, one feed-forward network for several styles: its training, its export, and how good it is."""
