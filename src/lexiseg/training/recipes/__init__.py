"""The runs that can be started by name."""

from lexiseg.training.recipes.catseg import CATSEG_OWN, CATSEG_VITB16, CATSEG_VITL14
from lexiseg.training.recipes.escnet import ESCNET_VITB16, ESCNET_VITL14
from lexiseg.training.recipes.lite import LITE, LITE_WEAK
from lexiseg.training.recipes.lite_heads import CATSEG_LITE, ESCNET_LITE
from lexiseg.training.run import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(LITE, LITE_WEAK, CATSEG_LITE, ESCNET_LITE, CATSEG_OWN),
        *(CATSEG_VITB16, CATSEG_VITL14, ESCNET_VITB16, ESCNET_VITL14),
    )
}
