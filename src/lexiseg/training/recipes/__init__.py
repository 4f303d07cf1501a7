"""The runs that can be started by name."""

from lexiseg.training.recipes.catseg import CATSEG_OWN, CATSEG_VITB16, CATSEG_VITL14
from lexiseg.training.recipes.lite import CATSEG_LITE, LITE
from lexiseg.training.run import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (LITE, CATSEG_LITE, CATSEG_OWN, CATSEG_VITB16, CATSEG_VITL14)
}
