"""Pictures as answers. The decoder in the side model `pictures` draws them."""
