"""Our layers in a keras.Sequential that is called on several inputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

K, U = 5, 3
DROPPED = "was called on 2 inputs, knows of one, and would drop the others"


@keras.saving.register_keras_serializable(package="test_sequential")
class Own(keras.layers.Layer):
    """A user's layer that has one of ours in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = sd.SharedDense(U)

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, x):
        return self.inner(x)


def sequential(*layers):
    return keras.Sequential([keras.Input((K,)), *layers])


def decoder():
    dense = keras.layers.Dense(U)
    dense.build((None, K))
    return sequential(dense, sd.TransposedDense(dense))


ONE_INPUT = {
    "ours first": lambda: sequential(sd.SharedDense(U), keras.layers.Dropout(0.1)),
    "ours last": lambda: sequential(keras.layers.Dense(U), sd.SharedDense(U)),
    "Shared": lambda: sequential(sd.Shared(keras.layers.Dense(U))),
    "TransposedDense": decoder,
    "in a Sequential": lambda: sequential(keras.Sequential([sd.SharedDense(U)])),
    "in a Sequential with an input": lambda: sequential(sequential(sd.SharedDense(U))),
    "in a model": lambda: sequential(
        keras.Model(x := keras.Input((K,)), sd.SharedDense(U)(x)), keras.layers.Dense(U)
    ),
    "in a user's layer": lambda: sequential(Own(), keras.layers.Dense(U)),
}


@pytest.fixture(params=ONE_INPUT)
def model(request):
    return ONE_INPUT[request.param]()


@pytest.fixture
def inputs(rng):
    return [rng.standard_normal((4, K)).astype("float32") for _ in range(2)]


@pytest.fixture(params=["as made", "cloned", "saved and loaded"])
def again(request, tmp_path):
    """Makes another of a model, the way that Keras does."""

    def make(model):
        if request.param == "cloned":
            return keras.models.clone_model(model)
        if request.param == "saved and loaded":
            model.save(tmp_path / "model.keras")
            return keras.models.load_model(tmp_path / "model.keras")
        return model

    return make


CALLS = {
    "eager": lambda model, xs: model(xs),
    "tuple": lambda model, xs: model(tuple(xs)),
    "function": lambda model, xs: tf.function(model)(xs),
    "predict": lambda model, xs: model.predict(xs, verbose=0),
    "in a model": lambda model, xs: keras.Sequential([model, keras.layers.Dense(1)])(xs),
}


@pytest.mark.filterwarnings("ignore:The structure of `inputs`", "ignore:.*was copied from")
@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_dropped_without_an_error(path, model, again, inputs, call):
    model = again(model)
    with pytest.raises(ValueError, match=DROPPED) as found:
        CALLS[call](model, inputs)
    assert "shared_dense.Shared(model)" in str(found.value)
    assert model(inputs[0]).shape[0] == 4


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")
def test_a_list_of_one_drops_nothing(path, model, inputs):
    np.testing.assert_array_equal(model([inputs[0]]), model(inputs[0]))


def test_wrapped_it_takes_all(path, inputs):
    model = sequential(sd.SharedDense(U, activation="relu"), sd.SharedDense(U))
    for a, x in zip(sd.Shared(model)(inputs), inputs, strict=True):
        np.testing.assert_allclose(a, model(x), atol=1e-6)


def test_without_an_input_it_takes_all(path, inputs):
    model = keras.Sequential([sd.SharedDense(U, activation="relu"), sd.SharedDense(U)])
    together = model(inputs)
    for a, x in zip(together, inputs, strict=True):
        np.testing.assert_allclose(a, model(x), atol=1e-6)
    assert len(model(inputs)) == 2  # after a call on one, too


def test_a_dict_of_more_features_is_keras_to_choose_from(path, rng):
    """By the name of the input, as from a pipeline that has an id beside it."""
    model = keras.Sequential([keras.Input((K,), name="query"), sd.SharedDense(U)])
    x = rng.standard_normal((4, K)).astype("float32")
    wanted = model(x)
    np.testing.assert_array_equal(model({"query": x, "id": np.arange(4)}), wanted)
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices(({"query": x, "id": np.arange(4)}, np.zeros((4, U))))
    model.fit(data.batch(2), verbose=0)


def test_a_call_inside_a_model_of_several_inputs_is_no_drop(path, inputs):
    """A model that is called on two inputs by right, of which a layer in it takes one."""
    x, y = keras.Input((K,)), keras.Input((K,))
    layer = sd.SharedDense(U)
    model = keras.Model([x, y], layer(x) + layer(y))
    np.testing.assert_allclose(model(inputs), layer(inputs[0]) + layer(inputs[1]), atol=1e-6)
