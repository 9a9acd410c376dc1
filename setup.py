from pathlib import Path

from setuptools import find_packages, setup


DATA = ["datasets>=5.0", "matplotlib", "pyyaml"]
METRICS = ["evaluate>=0.4.6"]
TRAIN = ["accelerate>=1.10", "filelock", "tensorboard", *DATA, *METRICS]
DEMO = ["gradio>=6.0"]
ANNOTATE = ["opencv-python-headless>=4.10", "starlette", "uvicorn"]
BROWSER = [
    "playwright>=1.50"
]  # 165 MB: the page's browser tests run where it and Chromium are, and are skipped elsewhere
KERNELS = [
    "triton; sys_platform == 'linux'"
]  # torch for CUDA brings its own; elsewhere to interpret them in tests
DEV = ["pycocotools", "pytest>=8.0", "pytest-xdist", "ruff", "setuptools", *KERNELS, *TRAIN, *DEMO]
DEV += ANNOTATE

setup(
    name="modeling_refavs",
    version="0.1.0",
    description="Segment the object that a sentence means in any video with sound: EEMC (Ref-AVS, "
    "ECCV 2024) for transformers",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["modeling_refavs*", "dataset_script*"]),
    package_data={
        "modeling_refavs": [
            "py.typed",
            "hub/card_template.md",
            "hub/imagenet_names.json",
            "hub/sound_makers.json",
            "hub/sound_verbs.json",
            "hub/verb_sounds.json",
            "metrics/refavs_*/README.md",
            "metrics/refavs_*/requirements.txt",
            "research/natural.json",
            "research/recipes/*.yaml",
            "training/recipes/*.yaml",
        ],
        "dataset_script": ["py.typed", "annotate/page/*", "synthetic/library.yaml"],
    },
    install_requires=[
        "torch>=2.6",
        "transformers>=5.17",
        "numpy",
        "scipy",
        "pillow>=10.1",
        "av>=14.0",
        "tqdm",
    ],
    extras_require={
        "data": DATA,
        "metrics": METRICS,
        "train": TRAIN,
        "demo": DEMO,
        "annotate": ANNOTATE,
        "browser": BROWSER,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["refavs = modeling_refavs.cli:run"]},
)
