"""Many photographs into one folder: resumable, in parts, over threads or a Ray cluster.

photos.py (what is asked for) -> job.py (the run) -> manifest.py (what is done, a line a photo)
"""
