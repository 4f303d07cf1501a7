"""Photographs with captions: folders, COCO's and Karpathy's JSON, webdataset tars."""

from lexiseg.data.captions.pairs import CaptionDataset as CaptionDataset
from lexiseg.data.captions.pairs import CaptionSample as CaptionSample
from lexiseg.data.captions.pairs import read_captions as read_captions
from lexiseg.data.captions.pairs import shrink as shrink
