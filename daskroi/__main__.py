"""``python -m daskroi``, the same as the command ``daskroi``."""

from daskroi.cli import main

# workers of a local cluster import this module again, under another name
if __name__ == "__main__":
    main(prog_name="daskroi")
