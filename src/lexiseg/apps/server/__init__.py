"""A server of segmenters over HTTP.

request ─ Guard (guard.py: id, key, size) ─ endpoint (app.py) ─ body (bodies.py, schema.py)
                                                 │
answer (answers.py) ◀─ Segmentation or Referral ─ Service (service.py) ─ Worker (worker.py)
"""

from lexiseg.apps.server.app import create_app as create_app
from lexiseg.apps.server.settings import Settings as Settings
