"""The student as ONNX files: export, int8, the check against torch, the session that answers."""

from tutelage.export.agreement import Agreement, agreement
from tutelage.export.latency import Latency, measure
from tutelage.export.session import OnnxClassifier
from tutelage.export.spec import ModelSpec
from tutelage.export.student import ExportResult, Probe, export_student

__all__ = [
    "Agreement",
    "ExportResult",
    "Latency",
    "ModelSpec",
    "OnnxClassifier",
    "Probe",
    "agreement",
    "export_student",
    "measure",
]
