"""The folders of ../shared/data on whose val splits the bundled models are scored."""

VAL_SPLITS = (
    *("scenes/msrc21", "scenes/coco128", "scenes/coco_mini", "scenes/ccp", "scenes/ccp_more"),
    *("scenes/facades", "objects/car_parts"),
)
