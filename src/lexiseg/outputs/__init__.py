"""What a Segmentation is written as: a file a format, each a function from a result to bytes."""

from lexiseg.outputs.formats import DEFAULT as DEFAULT
from lexiseg.outputs.formats import FORMATS as FORMATS
from lexiseg.outputs.formats import PICTURE_ENDINGS as PICTURE_ENDINGS
from lexiseg.outputs.formats import SUFFIXES as SUFFIXES
from lexiseg.outputs.formats import encode as encode
from lexiseg.outputs.formats import format_for as format_for
from lexiseg.outputs.formats import output_files as output_files
from lexiseg.outputs.formats import parse_formats as parse_formats
from lexiseg.outputs.formats import result_name as result_name
