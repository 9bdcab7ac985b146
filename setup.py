"""Packaging; every value is read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="], interpolation=None)
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
readme = here / "README.md"

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"], license="Apache-2.0", url=cfg["git_url"], keywords=cfg["keywords"].split(),
    packages=find_packages(include=["enmap_sharpener", "enmap_sharpener.*"]),
    python_requires=f">={cfg['min_python']},<3.13", install_requires=cfg["requirements"].split(),
    extras_require={
        "dev": cfg["dev_requirements"].split(),
        "maps": ["folium>=0.15"],
        "cpu": ["tensorflow-cpu>=2.18", "keras>=3.6", "optuna>=4"],
        "gpu": ["tensorflow[and-cuda]>=2.18", "keras>=3.6", "optuna>=4"],
    },
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
    include_package_data=True, zip_safe=False,
)
