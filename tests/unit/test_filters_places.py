"""Where pixels go: region, turning, undistortion, hot pixels; and the calibrations that are read."""

from __future__ import annotations

import numpy as np
import pytest

from firstspike.errors import ConfigError, DataError
from firstspike.filters.definition import DROPPED, REASONS
from firstspike.filters.hot_pixels import HotPixels
from firstspike.filters.places import Layout
from firstspike.filters.undistort import Camera, read_camera

WIDTH, HEIGHT = 5, 3
IMAGE = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
RADIAL = Camera(
    width=346, height=260, matrix=[[250.0, 0, 171.3], [0, 251.0, 128.9], [0, 0, 1]],
    distortion=[-0.37, 0.15, 0.001, -0.0007, -0.03],
)  # fmt: skip
FISHEYE = Camera(
    width=320, height=240, model="fisheye", matrix=[[150.0, 0, 160], [0, 150, 120], [0, 0, 1]],
    distortion=[0.02, -0.01, 0.003, -0.0005],
)  # fmt: skip


def moved(layout, hot=None):
    """An image whose pixels went where the table says; −1 where none came."""
    places, (width, height) = layout.places(WIDTH, HEIGHT, hot)
    image = np.full((height, width), -1)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            if places[y, x] < DROPPED:
                image[places[y, x] >> 16, places[y, x] & 0xFFFF] = IMAGE[y, x]
    return image


def reasons(places):
    return {name: int(np.count_nonzero(places == DROPPED + i)) for i, name in enumerate(REASONS)}


def test_nothing_asked_for_needs_no_table():
    assert Layout().places(WIDTH, HEIGHT) == (None, (WIDTH, HEIGHT))
    assert Layout().places(WIDTH, HEIGHT, HotPixels(WIDTH, HEIGHT, 1.0, ())) == (None, (WIDTH, HEIGHT))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_is_clockwise(turns):
    np.testing.assert_array_equal(moved(Layout(rotate=90 * turns)), np.rot90(IMAGE, -turns))


def test_flips_and_transposition():
    np.testing.assert_array_equal(moved(Layout(flip_x=True)), IMAGE[:, ::-1])
    np.testing.assert_array_equal(moved(Layout(flip_y=True)), IMAGE[::-1])
    np.testing.assert_array_equal(moved(Layout(transpose=True)), IMAGE.T)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", range(8))
def test_all_together_in_the_documented_order(flips, rotate):
    transpose, flip_x, flip_y = bool(flips & 1), bool(flips & 2), bool(flips & 4)
    layout = Layout(region=(1, 0, 4, 2), transpose=transpose, flip_x=flip_x, flip_y=flip_y, rotate=rotate)
    image = IMAGE[0:2, 1:5]
    image = image.T if transpose else image
    image = image[:, ::-1] if flip_x else image
    image = image[::-1] if flip_y else image
    np.testing.assert_array_equal(moved(layout), np.rot90(image, -rotate // 90))


def test_the_region_becomes_the_image_and_the_rest_is_counted_as_outside():
    places, size = Layout(region=(1, 1, 3, 2)).places(WIDTH, HEIGHT)
    assert size == (3, 2)
    assert reasons(places) == dict.fromkeys(REASONS, 0) | {"region": WIDTH * HEIGHT - 6}


@pytest.mark.parametrize("region", [(3, 0, 3, 1), (0, 2, 1, 2)])
def test_a_region_beyond_the_sensor_is_refused(region):
    with pytest.raises(ConfigError, match=r"filter.region .* beyond the sensor's 5×3"):
        Layout(region=region).places(WIDTH, HEIGHT)


def test_hot_pixels_are_dropped_for_being_hot_wherever_they_lie():
    hot = HotPixels(WIDTH, HEIGHT, 1.0, ((0, 0), (4, 2)))
    places, _ = Layout(region=(1, 1, 4, 2)).places(WIDTH, HEIGHT, hot)
    assert places[0, 0] == places[2, 4] == DROPPED + REASONS.index("hot_pixel")
    assert reasons(places)["hot_pixel"] == 2


@pytest.mark.parametrize("layout", [Layout(camera=RADIAL), Layout()])
def test_what_is_of_another_sensor_is_refused(layout):
    with pytest.raises(ConfigError, match="this one has 5×3"):
        layout.places(WIDTH, HEIGHT, HotPixels(3, 5, 1.0, ((0, 0),)))


def test_a_sensor_too_large_is_refused_before_a_table_is_made():
    with pytest.raises(DataError, match="filters take up to"):
        Layout(flip_x=True).places(65535, 65535)


@pytest.mark.parametrize("camera", [RADIAL, FISHEYE])
def test_undistortion_inverts_the_lens(camera):
    """A pixel's undistorted place, sent through the lens, is the pixel: to within the rounding of the place."""
    columns, rows, inside = camera.undistorted()
    (fx, _, cx), (_, fy, cy), _ = camera.matrix
    x, y = camera.distort((columns - cx) / fx, (rows - cy) / fy)
    wanted_y, wanted_x = np.mgrid[0 : camera.height, 0 : camera.width]
    off = np.hypot(x * fx + cx - wanted_x, y * fy + cy - wanted_y)[inside]
    # Half a pixel each way; the fisheye's middle is magnified by up to 1.1.
    assert off.max() < 0.5 * np.hypot(1, 1) * 1.15
    assert 0.5 < inside.mean() <= 1
    assert columns[inside].max() < camera.width
    assert rows[inside].max() < camera.height


def test_a_lens_without_distortion_changes_nothing():
    camera = RADIAL.model_copy(update={"distortion": [0.0] * 5})
    places, size = Layout(camera=camera).places(346, 260)
    assert size == (346, 260)
    y, x = np.mgrid[0:260, 0:346]
    np.testing.assert_array_equal(places, (y << 16 | x).astype(np.uint32))


def test_barrel_distortion_loses_the_border_and_says_so():
    places, _ = Layout(camera=RADIAL).places(346, 260)
    lost = reasons(places)
    assert 0.05 < lost["undistorted"] / places.size < 0.5
    assert places[0, 0] == DROPPED + REASONS.index("undistorted")  # its corner lies outside of the image
    assert places[129, 171] == 129 << 16 | 171


def test_pixels_beyond_the_fold_of_the_polynomial_have_no_place():
    """r(1 − 0.5 r²) turns back at r = 0.82, where it is 0.54: nothing inside is seen further out."""
    camera = Camera(
        width=400, height=3, matrix=[[200.0, 0, 200], [0, 200, 1], [0, 0, 1]], distortion=[-0.5, 0.0, 0.0, 0.0]
    )
    columns, _, inside = camera.undistorted()
    r = np.abs(np.arange(400) - 200) / 200
    assert not inside[1, r > 0.55].any()
    assert inside[1, r < 0.54].all()
    assert (np.diff(columns[1, r < 0.54]) >= 1).all()


def test_the_region_is_of_the_undistorted_image():
    whole, _ = Layout(camera=RADIAL).places(346, 260)
    part, size = Layout(camera=RADIAL, region=(20, 30, 300, 200)).places(346, 260)
    kept = part < DROPPED
    assert size == (300, 200)
    np.testing.assert_array_equal((part & 0xFFFF)[kept] + 20, (whole & 0xFFFF)[kept])
    np.testing.assert_array_equal((part >> 16)[kept] + 30, (whole >> 16)[kept])
    assert reasons(part)["undistorted"] == reasons(whole)["undistorted"]


CALIBRATION = """
width = 346
height = 260
matrix = [[250.0, 0, 171.3], [0, 251.0, 128.9], [0, 0, 1]]
distortion = [-0.37, 0.15, 0.001, -0.0007, -0.03]
"""


def test_a_calibration_as_toml_and_as_npz(tmp_path):
    (tmp_path / "camera.toml").write_text(CALIBRATION, encoding="utf-8")
    assert read_camera(tmp_path / "camera.toml") == RADIAL
    for distortion in (RADIAL.distortion, [RADIAL.distortion]):  # OpenCV gives one row
        np.savez(tmp_path / "camera.npz", width=346, height=260, matrix=np.array(RADIAL.matrix), distortion=distortion)
        assert read_camera(tmp_path / "camera.npz") == RADIAL


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("distortion = [-0.37, 0.15, 0.001, -0.0007, -0.03]", "distortion = [1.0]"), "1 coefficients"),
        (("[250.0, 0, 171.3]", "[0, 0, 171.3]"), "matrix: .*fx and fy above 0"),
        (("width = 346", "width = 0"), "width"),
        (("width = 346", ""), "width: Field required"),
        (("250.0", "nan"), "matrix"),
        (("width", "wide"), "Extra inputs|required"),
        (("= [", "= [["), "no calibration"),
        (("width = 346", 'width = 346\nmodel = "fisheye"'), "a fisheye model has 4"),
    ],
)
def test_what_is_wrong_with_a_calibration_is_named(tmp_path, change, says):
    path = tmp_path / "camera.toml"
    path.write_text(CALIBRATION.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as error:
        read_camera(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_calibration(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_camera(tmp_path / "none.toml")
    for name, data in (("a.npz", b""), ("b.npz", b"PK\x03\x04 broken"), ("c.toml", b"\xff\xfe"), ("d.npz", b"text")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match="no calibration"):
            read_camera(tmp_path / name)
    np.savez(tmp_path / "e.npz", width=np.array([{}], dtype=object))  # a pickle: never opened
    with pytest.raises(ConfigError, match="no calibration"):
        read_camera(tmp_path / "e.npz")
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="larger than"):
        read_camera(tmp_path / "big.toml")
