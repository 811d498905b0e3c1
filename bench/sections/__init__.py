"""One module for each section; ``run(bench)`` gives a :class:`~bench.report.Section`."""
