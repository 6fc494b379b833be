"""scikit-learn's MLPClassifier and MLPRegressor, trained in the compiled kernels."""

from fastmlp.estimators.classifier import MLPClassifier as MLPClassifier
from fastmlp.estimators.regressor import MLPRegressor as MLPRegressor
