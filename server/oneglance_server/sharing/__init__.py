"""One process keeps the galleries, any number of others use them: RemoteGalleries (remote.py) are a GalleryStore whose
calls go to a Keeper (keeper.py), by one stream of messages (messages.py) in both directions."""
