"""Photographs with label maps: the data set (dataset.py), one's own folder (folder.py)."""

from lexiseg.data.semantic.dataset import BACKGROUND as BACKGROUND
from lexiseg.data.semantic.dataset import IGNORE_INDEX as IGNORE_INDEX
from lexiseg.data.semantic.dataset import MaskFile as MaskFile
from lexiseg.data.semantic.dataset import SemanticDataset as SemanticDataset
from lexiseg.data.semantic.dataset import SemanticSample as SemanticSample
from lexiseg.data.semantic.dataset import Truth as Truth
from lexiseg.data.semantic.dataset import Vocabulary as Vocabulary
from lexiseg.data.semantic.folder import list_images as list_images
from lexiseg.data.semantic.folder import read_semantic_folder as read_semantic_folder
