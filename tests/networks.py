"Networks small enough for tests."
from enmap_sharpener.model.supermapnet import SupErMAPnet

SMALL = {"main_kernels": ((3, 3, 3), (3, 3, 2), (3, 3, 1), (3, 3, 3)), "main_filters": (3, 3, 3), "detail_kernels": (5, 3, 3), "detail_filters": (6, 4, 3)}


def network(**settings):
    "A network of a few hundred weights, built."
    net = SupErMAPnet(**{**SMALL, **settings})
    net.build()
    return net
