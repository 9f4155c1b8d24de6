"""The training objective that a config names."""

from lightning_modules.uosr.objectives.confidence import LearnedConfidence, RightOrWrong, TrueClassProbability
from lightning_modules.uosr.objectives.objective import Objective
from lightning_modules.uosr.objectives.outlier_exposure import BackgroundClass, EnergyHinge, OutlierExposure
from lightning_modules.uosr.objectives.proser import Placeholders
from lightning_modules.uosr.objectives.vos import VirtualOutliers
from lightning_modules.uosr.options import Options


def build_objective(options: Options, num_features: int) -> Objective:
    """Return the objective with layers of its own, untrained.

    Args:
        options: the options of the paper; `objective` names it.
        num_features: number d of penultimate features.

    Raises:
        ValueError: if there is no such objective.
    """
    match options["objective"]:
        case "ce":
            return Objective()
        case "oe":
            return OutlierExposure(options["oe"])
        case "energy":
            return EnergyHinge(options["energy"])
        case "eb":
            return BackgroundClass(num_features)
        case "vos":
            return VirtualOutliers(num_features, options["num_classes"], options["vos"])
        case "lc":
            return LearnedConfidence(num_features, options["lc"])
        case "tcp":
            return TrueClassProbability(num_features, options["tcp"])
        case "bce":
            return RightOrWrong(num_features, options["bce"])
        case "proser":
            return Placeholders(num_features, options["proser"])
    raise ValueError(
        f"there is no objective '{options['objective']}': take ce, oe, energy, eb, vos, lc, tcp, bce or proser"
    )
