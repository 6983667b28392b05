"""Where else a run's numbers can be seen: one file for each tracker, which alone imports that library.

A file provides `NEEDS`, the module that must be installed, and `open(folder, run) -> Tracker`: a run folder and what
names the run. What a reader would get wrong: a tracker is told what stands in the run's plain files, and nothing is
ever read back from it. None makes a connection; all write files.
"""
