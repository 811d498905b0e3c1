"""``make bench``: image_repo beside nginx, thumbor and ipx, in one run on one machine. See README.md here."""
