"""Files and folders: where they are kept, how they are replaced, and which ones may be."""
