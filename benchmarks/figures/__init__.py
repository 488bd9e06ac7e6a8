"""Every table of measured numbers in the documents, and how it was measured.

    make figures                            # measures what is missing or of former weights, then writes the tables
    make figures ONLY=molecules_svdd        # one measurement, or the measurements of one document, ONLY=README.md
    make figures MINUTES=30                 # no run begins after so many minutes; the same command goes on
    make figures ARGS=--list                # measures nothing: what is stale, and about how many minutes it takes
    make figures ARGS=--render              # measures nothing: writes the tables from what has been measured
    make figures ONLY=hot_loop ARGS=--again # measures what is not stale, too

Three things belong together:

1. A **measurement** (molecules.py, images.py, sequences.py, …) is a few runs with their settings, and the function that
   measures one of them. Most runs are `guided sample` with these settings; the others call a script of this repository.
2. Its **numbers** are committed in `docs/measured/NAME.json`, run by run, each saved as soon as it is there: with date,
   device, version of torch, settings, and the fingerprint of the weights that were measured: the first 12 characters of
   `sha256sum guided/checkpoints/MODEL/model.safetensors`, or of all its safetensors in the order of their paths.
3. A **table** is a block of a document, written from these numbers and never by hand:

       <!-- figures: NAME -->
       <!-- end -->

A run is stale if the weights or its settings are others now. Its rows stay in the document, and a line beneath the
table says that they are stale, until it is measured again; tests/test_figures.py fails where that line is missing.
Numbers that were in the documents before there was this folder have their date, their weights and a note.

To add a table: write a `Measurement` and a `Table` beside the others, put the two comments into the document, and run
`make figures ONLY=NAME`. Tables that are not measured here, and why not, are in outside.py.
"""
