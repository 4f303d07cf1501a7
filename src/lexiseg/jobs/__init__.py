"""What is more than one picture: folders, large pictures, video.

folders  photos.py (what is asked for) -> job.py (the run) -> manifest.py (what is done, a line a
         photo) -> merged.py (one file for all); resumable, in parts, over threads or a Ray cluster
large    large.py: rows -> tiles -> scores blended where they overlap
video    frames.py (files, cameras, pipes) -> video.py -> tinted frames
contest.py says who has a pixel, from scores that were blended over tiles or frames.
"""
