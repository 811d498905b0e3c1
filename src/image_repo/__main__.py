"""``python -m image_repo``."""

from image_repo.cli.main import main

main(prog_name="image_repo")
