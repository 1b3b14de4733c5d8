"""Work that is done block by block: the grid, who does it, and which blocks are done."""
