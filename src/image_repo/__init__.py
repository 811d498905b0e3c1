"""image_repo: any picture of a repository, in any size and format, by one URL.

This package imports nothing on purpose: uWSGI goes on in the interpreter of the
command line, and what the command imported before would not be loaded anew in
its workers.
"""

__version__ = "1.0.0"
