"""The runs that can be started by name."""

from lexiseg.training.recipes.catseg import CATSEG_VITB16, CATSEG_VITL14
from lexiseg.training.recipes.catseg_own import CATSEG_OWN
from lexiseg.training.recipes.cris import CRIS_PUBLISHED
from lexiseg.training.recipes.cris_lite import CRIS_LITE
from lexiseg.training.recipes.escnet import ESCNET_VITB16, ESCNET_VITL14
from lexiseg.training.recipes.lite import LITE, LITE_WEAK, LITE_WHOLE
from lexiseg.training.recipes.lite_heads import CATSEG_LITE, ESCNET_LITE
from lexiseg.training.recipes.segclip import SEGCLIP_VITB16
from lexiseg.training.recipes.segclip_lite import SEGCLIP_LITE
from lexiseg.training.run import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(SEGCLIP_LITE, SEGCLIP_VITB16),
        *(LITE, LITE_WHOLE, LITE_WEAK, CATSEG_LITE, ESCNET_LITE, CATSEG_OWN),
        *(CATSEG_VITB16, CATSEG_VITL14, ESCNET_VITB16, ESCNET_VITL14),
        *(CRIS_LITE, *CRIS_PUBLISHED),
    )
}
