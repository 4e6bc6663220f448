"""Files and folders: where labkit keeps them, how it replaces them, and which ones it may replace."""
