"""Looking at what was measured: every request of every cell, filtered, sorted, compared, down to the sample.

Pure: from tables to pages. `steer_assets.explore` serves them, and only to this machine.

* `bench`: the tables of a bench as they stand on storage now, read when a view wants them, columns that it wants;
* `index`: one narrow row a sample of all cells, in memory;
* `state`: what a view shows, read from its address and written to it;
* `query`: the rows of a state, in its order;
* `sample`, `compare`, `space`, `strengths`, `board`, `tables`: what the views show;
* `pages`: views as HTML.
"""
