"""Centroid-constrained GANs: the reference implementation of Seo and Park's center constraint loss."""

import lazy_loader

# Names are imported when they are used: the batch command needs none of torch. __init__.pyi says where each comes from.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
