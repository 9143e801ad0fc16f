"""Flat tables: what their columns mean, a row a box or a row an image, and what is refused."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth, InputError, read, read_detections, write
from upmap.detection.formats import read_ground_truth, recognize_format
from upmap.errors import InputWarning
from upmap.metrics import COCO, mean_average_precision

pyarrow = pytest.importorskip("pyarrow")

TRUTH = "image,label,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,30,40\na.jpg,dog,5,5,15,25\nb.jpg,,,,,\n"
HEADER = "image,label,xmin,ymin,xmax,ymax,score\n"
RESULTS = f"{HEADER}a.jpg,cat,1,2,30,40.5,0.9\nb.jpg,dog,0,0,9,9,0.5\n"
COCO_TRUTH = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 29, 38], "area": 5, "iscrowd": 0}
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
}


def put(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, newline="")
    return folder


def both(folder: Path, truth: str = TRUTH, results: str = RESULTS, **options: Any) -> Any:
    put(folder, {"t.csv": truth, "d.csv": results})
    return read(folder / "t.csv", folder / "d.csv", **options)


def of_coco(folder: Path, results: str, name: str = "d.csv", **options: Any) -> Detections:
    put(folder, {"t.json": json.dumps(COCO_TRUTH), name: results})
    return read(folder / "t.json", folder / name, **options)[1]


def labels(table: GroundTruth | Detections) -> list[str]:
    return [table.catalog.classes[k] for k in table.label.tolist()]


def images(table: GroundTruth | Detections) -> list[Any]:
    return [table.catalog.images[i] for i in table.image.tolist()]


def test_a_row_is_a_box_and_one_without_is_an_image(tmp_path: Path) -> None:
    truth, found = both(tmp_path)
    assert truth.catalog.images == ("a", "b")
    assert truth.catalog.file_names == ("a.jpg", "b.jpg")
    assert (images(truth), labels(truth)) == (["a", "a"], ["cat", "dog"])
    assert truth.box.tolist() == [[1, 2, 30, 40], [5, 5, 15, 25]]
    assert truth.size.tolist() == [[29, 38], [10, 20]]
    assert (images(found), labels(found)) == (["a", "b"], ["cat", "dog"])
    assert (found.score.tolist(), found.row.tolist()) == ([0.9, 0.5], [0, 1])


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ("x1,y1,x2,y2", "1,2,30,40"),
        ("left,top,right,bottom", "1,2,30,40"),
        ("x,y,w,h", "1,2,29,38"),
        ("x,y,width,height", "1,2,29,38"),
        ("X_Center,Y_Center,Width,Height", "15.5,21,29,38"),
        ("ymax,xmax,ymin,xmin", "40,30,2,1"),
    ],
)
@pytest.mark.parametrize("image", ["image_id", "file_name", "filename", "img", "frame", "ImageID"])
@pytest.mark.parametrize("label", ["class", "category", "class_name", "LabelName"])
def test_columns_are_found_by_their_usual_names(
    names: str, numbers: str, image: str, label: str, tmp_path: Path
) -> None:
    text = f"{image},{label},confidence,{names}\na.jpg,cat,0.5,{numbers}\n"
    _, found = both(tmp_path, results=text)
    assert found.box.tolist() == [[1, 2, 30, 40]]


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    text = "pic;kind;p;l;t;r;b\na.jpg;cat;0,25;1;2;30;40,5\n"
    columns = {"image": "pic", "class": "kind", "score": "p"}
    columns |= {"xmin": "l", "ymin": "t", "xmax": "r", "ymax": "b"}
    _, found = both(tmp_path, results=text, columns=columns)
    assert (found.box.tolist(), found.score.tolist()) == ([[1, 2, 30, 40.5]], [0.25])
    with pytest.raises(InputError, match=r"no column for an image and a box.*--columns"):
        both(tmp_path, results=text)
    with pytest.raises(InputError, match=r"--columns: no column 'nothing'; there are pic, kind"):
        both(tmp_path, results=text, columns=columns | {"score": "nothing"})


def test_a_list_in_one_column_asks_what_its_numbers_are(tmp_path: Path) -> None:
    text = 'image,class,score,bbox\na.jpg,cat,0.5,"[1, 2, 29, 38]"\n'
    with pytest.raises(InputError, match=r"'bbox' does not say .*--box"):
        both(tmp_path, results=text)
    assert both(tmp_path, results=text, box="xywh")[1].box.tolist() == [[1, 2, 30, 40]]


def test_boxes_in_units_of_the_image_ask_for_their_option(tmp_path: Path) -> None:
    text = "image,class,score,xmin,ymin,xmax,ymax\na.jpg,cat,0.5,0.1,0.2,0.5,1.0\n"
    with pytest.raises(InputError, match=r"--box xyxy-normalized or --box xyxy says which"):
        both(tmp_path, results=text)
    assert both(tmp_path, results=text, box="xyxy")[1].pixels == "continuous"
    options: Any = {"box": "xyxy-normalized", "image_size": (100, 50)}
    truth = TRUTH.replace("30,40", "0.3,0.8").replace("1,2,", "0.01,0.04,")
    tables = both(tmp_path, truth.replace("5,5,15,25", "0,0,1,1"), text, **options)
    assert tables[1].box.tolist() == [[10, 10, 50, 50]]


def test_lists_have_a_row_an_image(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "boxes": [[1, 2, 30, 40], [0, 0, 9, 9]], "scores": [0.9, 0.5]},
        {"image": "b.jpg", "boxes": [], "scores": []},
        {"image": "a.jpg", "boxes": [[5, 5, 9, 9]], "scores": [0.75]},
    ]
    for row, names in zip(rows, (["cat", "dog"], [], ["dog"]), strict=True):
        row["labels"] = names
    lines = "\n".join(map(json.dumps, rows))
    put(tmp_path, {"t.csv": TRUTH, "d.jsonl": lines})
    _, found = read(tmp_path / "t.csv", tmp_path / "d.jsonl", box="xyxy")
    assert (labels(found), images(found)) == (["cat", "dog", "dog"], ["a", "a", "a"])
    assert found.score.tolist() == [0.9, 0.5, 0.75]
    put(tmp_path, {"d.jsonl": lines.replace("[0.75]", "[0.75, 1]")})
    with pytest.raises(InputError, match=r"d\.jsonl:row 3: lists of score and boxes differ"):
        read(tmp_path / "t.csv", tmp_path / "d.jsonl", box="xyxy")


def test_ids_of_coco_are_matched_as_numbers_or_by_file_names(tmp_path: Path) -> None:
    box = "x,y,w,h,score\n"
    by_id = of_coco(tmp_path, f"image_id,category_id,{box}9,5,1,2,3,4,0.5\n7,3,1,2,3,4,0.25\n")
    assert (images(by_id), labels(by_id)) == ([9, 7], ["dog", "cat"])
    by_name = of_coco(tmp_path, f"image,category,{box}b.jpg,dog,1,2,3,4,0.5\n")
    assert (images(by_name), labels(by_name)) == ([9], ["dog"])
    by_stem = of_coco(tmp_path, f"image_id,category_id,{box}b,5,1,2,3,4,0.5\n")
    assert (images(by_stem), labels(by_stem)) == ([9], ["dog"])


def test_what_is_not_listed_is_left_out_and_noted(tmp_path: Path) -> None:
    box = "x,y,w,h,score\n"
    rows = "9,5,1,2,3,4,0.5\n8,5,1,2,3,4,0.5\n7,4,1,2,3,4,0.5\n"
    with pytest.warns(InputWarning) as records:
        detections = of_coco(tmp_path, f"image_id,category_id,{box}{rows}")
    kinds = [record.message.kind for record in records]  # type: ignore[union-attr]
    assert sorted(kinds) == ["class-without-name", "detection-on-unlisted-image"]
    assert (images(detections), detections.row.tolist()) == ([9], [0])


def test_numbers_for_classes_are_never_matched_with_names_in_silence(tmp_path: Path) -> None:
    numbers = "image,class_id,x,y,w,h,score\na.jpg,1,1,2,3,4,0.5\n"
    with pytest.raises(InputError, match=r"--class-names FILE .*says which class"):
        both(tmp_path, results=numbers)
    detections = both(tmp_path, results=numbers, class_names={1: "dog"})[1]
    assert labels(detections) == ["dog"]
    truth = TRUTH.replace("cat", "1").replace("dog", "2")
    with pytest.raises(InputError, match="name the classes, and the ground truth numbers them"):
        both(tmp_path, truth)
    assert labels(both(tmp_path, truth, numbers)[1]) == ["1"]


def test_numbers_beside_yolo_which_counts_from_zero_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    files = {"labels/a.txt": "0 0.5 0.5 0.2 0.2\n", "labels/classes.txt": "cat\n"}
    put(tmp_path, files | {"d.csv": "image,class_id,x,y,w,h,score\na,1,1,2,3,4,0.5\n"})
    with pytest.raises(InputError, match="counts them from 0; --class-names"):
        read(tmp_path / "labels", tmp_path / "d.csv", image_size=(10, 10))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,cat,1,2,3,x,0.5", r"d\.csv:3: ymax: not a number: 'x'"),
        ("a.jpg,cat,1,2,3,0.5", r"d\.csv:3: expected 7 columns, got 6"),
        ("a.jpg,cat,1,2,3,,0.5", r"d\.csv:row 2: the box is not finite or too large, or lacks"),
        ("a.jpg,cat,1,2,3,inf,0.5", r"d\.csv:row 2: the box is not finite"),
        ("a.jpg,cat,1,2,3,4,", r"d\.csv:row 2: the score is missing or not finite"),
        ("a.jpg,cat,1,2,3,4,nan", r"d\.csv:row 2: the score is missing or not finite"),
    ],
)
def test_a_wrong_row_is_refused_by_its_place(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        both(tmp_path, results=f"{HEADER}b.jpg,dog,0,0,9,9,0.5\n{row}\n")


def test_null_boxes_of_a_join_are_images_without_detections(tmp_path: Path) -> None:
    _, found = both(tmp_path, results=f"{HEADER}b.jpg,NULL,NULL,NULL,NULL,NULL,NULL\n")
    assert len(found) == 0


def parquet(folder: Path, columns: Mapping[str, Any], name: str = "d.parquet") -> Path:
    from pyarrow import parquet as files

    table = pyarrow.table(columns)
    if name.endswith(".parquet"):
        files.write_table(table, folder / name, row_group_size=2)
    else:
        with pyarrow.ipc.new_file(folder / name, table.schema) as writer:
            writer.write_table(table)
    return folder / name


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.feather"])
def test_float32_and_dictionaries_of_arrow_are_exact(name: str, tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": TRUTH})
    numbers = np.array([1.1, 2.2, 3.3], np.float32)
    columns = {
        "image": pyarrow.array(["a.jpg", "b.jpg", "a.jpg"]).dictionary_encode(),
        "label": pyarrow.array(["cat", "dog", "dog"], pyarrow.large_string()),
        **{key: numbers + i for i, key in enumerate(("x", "y", "w", "h"))},
        "score": pyarrow.array([0.1, 0.2, 0.3], pyarrow.float32()),
        "other": pyarrow.array([b"x" * 9] * 3),
    }
    _, found = read(tmp_path / "t.csv", parquet(tmp_path, columns, name))
    assert found.score.tolist() == np.array([0.1, 0.2, 0.3], np.float32).astype(float).tolist()
    assert found.box[:, 0].tolist() == numbers.astype(float).tolist()
    assert (images(found), labels(found)) == (["a", "b", "a"], ["cat", "dog", "dog"])


def test_parts_in_a_folder_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": TRUTH})
    (tmp_path / "parts").mkdir()
    for i in (1, 0):
        columns = {"image": ["a.jpg"], "label": [["cat", "dog"][i]], "score": [0.5]}
        columns |= {name: [float(i + 3)] for name in ("x", "y", "w", "h")}
        parquet(tmp_path / "parts", columns, f"p{i}.parquet")
    _, found = read(tmp_path / "t.csv", tmp_path / "parts")
    assert (labels(found), found.row.tolist()) == (["cat", "dog"], [0, 1])
    parquet(tmp_path / "parts", {"image": ["a"]}, "p2.parquet")
    with pytest.raises(InputError, match=r"p2\.parquet: no column 'label'"):
        read(tmp_path / "t.csv", tmp_path / "parts")


@pytest.mark.parametrize("is_list", [False, True])
def test_objects_of_hugging_face_are_read_in_both_layouts(is_list: bool, tmp_path: Path) -> None:
    objects: list[Any] = [
        {"bbox": [[1, 2, 29, 38], [5, 5, 10, 20]], "category": [0, 1], "area": [3.0, 200.0]},
        {"bbox": [], "category": [], "area": []},
    ]
    if is_list:
        keys = list(objects[0])
        rows = [zip(*columns.values(), strict=True) for columns in objects]
        objects = [[dict(zip(keys, row, strict=True)) for row in of_image] for of_image in rows]
    columns = {"image": [b"jpeg", b"jpeg"], "width": [100, 50], "height": [80, 50]}
    table = pyarrow.table(columns | {"objects": objects})
    names = {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    features = {"objects": {"feature": {"category": names["feature"]}}}
    footer = json.dumps({"info": {"features": features}})
    from pyarrow import parquet as files

    files.write_table(
        table.replace_schema_metadata({"huggingface": footer}), tmp_path / "t.parquet"
    )
    truth = read_ground_truth(tmp_path / "t.parquet")
    assert truth.catalog.images == (0, 1)
    assert truth.catalog.sizes.tolist() == [[100, 80], [50, 50]]
    assert (labels(truth), truth.area.tolist()) == (["cat", "dog"], [3, 200])
    assert truth.box.tolist() == [[1, 2, 30, 40], [5, 5, 15, 25]]


@pytest.mark.parametrize(
    ("columns", "box", "expected"),
    [
        ("xmin,ymin,xmax,ymax", "xywh", [1, 2, 3, 5]),  # the names say it; the other input is xywh
        ("x,y,w,h", "xyxy", [1, 2, 4, 7]),
        ("x,y,w,h", "cxcywh", [-0.5, -0.5, 2.5, 4.5]),  # names that are used for both
    ],
)
def test_names_of_columns_go_before_what_is_said_of_boxes(
    columns: str, box: str, expected: list[float], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"image,class,{columns}\na.jpg,cat,1,2,3,5\n")
    assert read_ground_truth(tmp_path / "t.csv", box=box).box.tolist() == [expected]


def test_boxes_xyxy_in_a_data_set_of_hugging_face_are_not_taken_for_xywh(tmp_path: Path) -> None:
    objects = [{"bbox": [[50, 60, 90, 70]], "category": [0]}]
    table = pyarrow.table({"width": [100], "height": [80], "objects": objects})
    from pyarrow import parquet as files

    files.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"read as xywh, 1 of 1 boxes reach outside.*--box xyxy"):
        read_ground_truth(tmp_path / "t.parquet")
    assert read_ground_truth(tmp_path / "t.parquet", box="xyxy").box.tolist() == [[50, 60, 90, 70]]


def test_parquet_that_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"d\.parquet: "):
        read_ground_truth(tmp_path / "d.parquet", format="table")


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize("source", ["coco", "voc"])
def test_what_is_written_as_a_table_gives_the_same_numbers(
    to: str, source: str, tmp_path: Path
) -> None:
    truth, found = sample(source, tmp_path)
    write(truth, found, tmp_path / "out", format=to)
    ending = {"csv": "csv", "parquet": "parquet"}[to]
    again = read(
        tmp_path / "out" / f"ground_truth_all.{ending}",
        tmp_path / "out" / f"detections_all.{ending}",
    )
    assert len(again[0].catalog.images) == len(truth.catalog.images)
    expected = mean_average_precision(truth, found, protocol=COCO).metrics
    assert mean_average_precision(*again, protocol=COCO).metrics == expected


def sample(source: str, folder: Path) -> tuple[GroundTruth, Detections]:
    """The sample that ships, as VOC or converted to COCO."""
    import upmap

    devkit = (Path(upmap.__file__).parent / "data" / "sample" / "voc").resolve()
    truth, found = read(devkit, devkit / "results")
    if source == "voc":
        # VOC's own marks are not COCO's: difficult objects count there.
        return truth, found
    write(truth, found, folder / "coco", format="coco")
    return read(folder / "coco/instances_all.json", folder / "coco/detections_all.json")


def test_csv_and_parquet_give_the_numbers_of_coco_json(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "formats" / "coco_val2014_100"
    tables = read(
        folder / "instances_val2014_100.json",
        folder / "instances_val2014_fakebbox100_results.json",
    )
    expected = mean_average_precision(*tables, protocol=COCO).metrics
    csv_file = real_data / "formats" / "arrow" / "detections_flat.csv"
    by_csv = read(folder / "instances_val2014_100.json", csv_file)
    assert mean_average_precision(*by_csv, protocol=COCO).metrics == expected
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(3):
        name = f"detections-0000{i}-of-00003.parquet"
        (shards / name).symlink_to(real_data / "formats" / "arrow" / name)
    by_parquet = read(folder / "instances_val2014_100.json", shards)
    numbers = mean_average_precision(*by_parquet, protocol=COCO).metrics
    assert numbers["AP"] == pytest.approx(expected["AP"], abs=1e-3)  # corners are float32


def test_the_sample_of_hugging_face_is_read(real_data: Path) -> None:
    folder = real_data / "formats"
    truth = read_ground_truth(folder / "arrow" / "hf_objects_struct_of_lists.parquet")
    coco = read_ground_truth(folder / "coco_val2014_100" / "instances_val2014_100.json")
    assert truth.catalog.images == coco.catalog.images
    np.testing.assert_array_equal(np.sort(truth.area), np.sort(coco.area))
    assert int(truth.crowd.sum()) == int(coco.crowd.sum())


PIECES = ("", ",", '"', "\n", "nan", "1e999", "-", "a", "[", "{", "\x00", ";")


def mutated(seed: int) -> str:
    """The results with some characters replaced."""
    generator = random.Random(seed)
    text = RESULTS
    for _ in range(generator.randrange(1, 4)):
        place = generator.randrange(len(text))
        piece = generator.choice(
            ("", ",", '"', "\n", "nan", "1e999", "-", "a", "[", "{", "\x00", ";")
        )
        text = text[:place] + piece + text[place + generator.randrange(3) :]
    return text


@pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")
def test_mutated_tables_are_read_or_refused(tmp_path: Path) -> None:
    taken = 0
    for seed in range(300):
        put(tmp_path, {"t.csv": TRUTH, "d.csv": mutated(seed)})
        truth = read_ground_truth(tmp_path / "t.csv")
        try:
            read_detections(tmp_path / "d.csv", truth.catalog)
            taken += 1
        except InputError:
            continue
    assert 10 < taken < 290


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.csv.gz"])
def test_tables_are_recognized_by_their_ending(name: str, tmp_path: Path) -> None:
    import gzip

    text = TRUTH.replace(",", "\t") if name == "t.tsv" else TRUTH
    if name == "t.jsonl":
        text = '{"image": "a", "label": "cat", "x": 1, "y": 2, "w": 3, "h": 4}\n'
    data = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(data)
    assert recognize_format(tmp_path / name, "ground truth") == "table"
    assert len(read_ground_truth(tmp_path / name)) > 0
