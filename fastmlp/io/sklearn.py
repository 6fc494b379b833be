"""Estimators from and to scikit-learn's own."""

from __future__ import annotations

import copy
from typing import Any

from sklearn import neural_network
from sklearn.utils.validation import check_is_fitted

from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.io.models import layers_of

_ATTRIBUTES = (
    "n_iter_", "t_", "loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "n_features_in_",
    "feature_names_in_", "classes_", "n_layers_", "n_outputs_", "out_activation_", "_no_improvement_count", "_label_binarizer",
)  # fmt: skip
"""Fitted state that both have under the same name, where they have it."""

_PAIRS = ((neural_network.MLPClassifier, MLPClassifier), (neural_network.MLPRegressor, MLPRegressor))


def from_sklearn(estimator: Any) -> MLPClassifier | MLPRegressor:
    """A fitted estimator of this package from one of scikit-learn's: the same parameters, the same predictions.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted.

    Returns
    -------
    MLPClassifier or MLPRegressor
        Its ``partial_fit`` goes on from the weights, with a fresh optimizer.
    """
    for theirs, ours in _PAIRS:
        if isinstance(estimator, theirs):
            check_is_fitted(estimator)
            names = ours().get_params()  # a class made from theirs may have more
            # Copies: what is drawn from a RandomState here is not drawn from the given estimator's.
            made: Any = ours(**{
                name: copy.deepcopy(value) for name, value in estimator.get_params(deep=False).items() if name in names
            })  # fmt: skip
            if made.random_state is None:  # until below: nor is anything drawn from NumPy's own
                made.random_state = 0
            _take_over(made, estimator)  # the classes, on which the output depends
            made._begin([estimator.coefs_[0].shape[0], *(coef.shape[1] for coef in estimator.coefs_)], estimator.coefs_[0].dtype)
            _take_over(made, estimator)
            made._adopt([coef.copy() for coef in estimator.coefs_], [bias.copy() for bias in estimator.intercepts_])
            made.random_state = copy.deepcopy(estimator.random_state)
            _take_over_requests(made, estimator)
            result: MLPClassifier | MLPRegressor = made
            return result
    raise TypeError(f"estimator must be scikit-learn's MLPClassifier or MLPRegressor, got {type(estimator).__name__}.")


def to_sklearn(estimator: MLPClassifier | MLPRegressor) -> Any:
    """One of scikit-learn's estimators from a fitted one of this package, for wherever this package is not installed.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted; with one activation for all hidden layers that scikit-learn has (identity, logistic, tanh, relu), and with its loss.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        It predicts the same. Parameters that scikit-learn does not have are left out.

    Raises
    ------
    ValueError
        If scikit-learn's estimators cannot compute this network, or a parameter is not finite.
    """
    for theirs, ours in _PAIRS:
        if isinstance(estimator, ours):
            check_is_fitted(estimator)
            layers = layers_of(estimator._synchronized(), "an estimator of scikit-learn")  # of a class made from ours, too
            hidden = {layer.activation for layer in layers[:-1]}
            known = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
            if len(hidden) > 1 or not hidden <= known.keys():
                raise ValueError(
                    f"The hidden layers have the activations {', '.join(sorted(hidden))}; scikit-learn has one of "
                    f"{', '.join(known.values())} for all of them."
                )
            made: Any = theirs()
            if layers[-1].activation == "exponential" and "loss" not in made.get_params():
                raise ValueError(
                    "The outputs are exponential, as those of the loss poisson are, which scikit-learn has from 1.7 on."
                )
            options = {name: value for name, value in estimator.get_params(deep=False).items() if name in made.get_params()}
            options["activation"] = known[hidden.pop()] if hidden else "identity"
            if options.get("loss") not in (None, "squared_error", "poisson"):  # it says only what the training minimised
                options["loss"] = "poisson" if layers[-1].activation == "exponential" else "squared_error"
            options["random_state"] = copy.deepcopy(options["random_state"])  # each draws from its own
            made.set_params(**options)
            _take_over(made, estimator)
            made.coefs_, made.intercepts_ = [layer.weight for layer in layers], [layer.bias for layer in layers]
            if made.early_stopping:  # what its fit returns to, with warm_start, if it finds nothing better
                made._best_coefs, made._best_intercepts = copy.deepcopy((made.coefs_, made.intercepts_))
            _take_over_requests(made, estimator)
            return made
    raise TypeError(f"estimator must be fastmlp's MLPClassifier or MLPRegressor, got {type(estimator).__name__}.")


def _take_over_requests(made: Any, estimator: Any) -> None:
    """What scikit-learn's metadata routing is to pass to which method, as far as both have it."""
    if "_metadata_request" not in vars(estimator):
        return
    requests = made._get_metadata_request()
    for method in ("fit", "partial_fit", "score"):
        mine = getattr(requests, method)
        for name, alias in getattr(estimator._metadata_request, method).requests.items():
            if name in mine.requests:
                mine.add_request(param=name, alias=alias)
    made._metadata_request = requests


def _take_over(made: Any, estimator: Any) -> None:
    for name in _ATTRIBUTES:
        if hasattr(estimator, name):
            setattr(made, name, copy.deepcopy(getattr(estimator, name)))  # each goes on by itself
