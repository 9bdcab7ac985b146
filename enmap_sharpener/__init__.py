"""EnMAP's 224 bands at Sentinel-2's 10 m.

What most users need is here, and is loaded when it is asked for:

    import enmap_sharpener as es
    scene, guide = es.read_enmap("enmap"), es.read_sentinel2("enmap/sentinel2")
    es.write_scene(es.sharpen(scene, guide), "potsdam.tif", scene=scene, guide=guide)

All else is in the modules of the rooms, such as `enmap_sharpener.fusion.subspace`.
"""
__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:    # for editors and type checkers: the same names as in the table below
    from .core.errors import EnmapError as EnmapError
    from .evaluation.scores import compare as compare
    from .figures.quicklook import before_after as before_after
    from .reconstruction.output import write_scene as write_scene
    from .reconstruction.uncertainty import error as error
    from .scenes.cubes import read_cube as open
    from .scenes.enmap import read_enmap as read_enmap
    from .scenes.sentinel2 import read_sentinel2 as read_sentinel2
    from .scraping.bulk import download_scenes as download_scenes
    from .scraping.dlr_search import search_scenes as search_scenes
    from .scraping.services import fetch_partners as fetch_partners
    from .sharpening.sharpening import sharpen as sharpen
    from .simulation.scene import simulate as simulate
    from .simulation.scene import simulate_pair as simulate_pair

_PLACES = {    # name: where it is made; no room is called like it
    "EnmapError": "core.errors:EnmapError",
    "before_after": "figures.quicklook:before_after",
    "compare": "evaluation.scores:compare",
    "download_scenes": "scraping.bulk:download_scenes",
    "error": "reconstruction.uncertainty:error",
    "fetch_partners": "scraping.services:fetch_partners",
    "open": "scenes.cubes:read_cube",
    "read_enmap": "scenes.enmap:read_enmap",
    "read_sentinel2": "scenes.sentinel2:read_sentinel2",
    "search_scenes": "scraping.dlr_search:search_scenes",
    "sharpen": "sharpening.sharpening:sharpen",
    "simulate": "simulation.scene:simulate",
    "simulate_pair": "simulation.scene:simulate_pair",
    "write_scene": "reconstruction.output:write_scene",
}
_EXTRAS = {"scraping": "scrape", "simulation": "simulate"}    # of the rooms above, the extra that brings what they need

__all__ = [
    "EnmapError", "__version__", "before_after", "compare", "download_scenes", "error", "fetch_partners", "open", "read_enmap", "read_sentinel2",
    "search_scenes", "sharpen", "simulate", "simulate_pair", "write_scene",
]


def __getattr__(name: str):
    "Load a name when it is asked for first (PEP 562)."
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    module, _, function = _PLACES[name].partition(":")
    try:
        value = getattr(import_module(f"{__name__}.{module}"), function)
    except ModuleNotFoundError as error:
        from .core.errors import MissingExtra, install_extra
        extra = _EXTRAS.get(module.partition(".")[0])
        if extra is None or (error.name or "").startswith(__name__):
            raise
        raise MissingExtra(f"{name} needs {error.name}: {install_extra(extra)}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
