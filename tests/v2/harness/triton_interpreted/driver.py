"""A driver that is always active, which is what vLLM asks before it uses Triton."""

from triton.backends.driver import DriverBase

from triton_interpreted import patches

patches.install()


class Driver(DriverBase):
    """Launches nothing: the interpreter runs kernels without it."""

    is_active = staticmethod(lambda: True)
    map_python_to_cpp_type = get_current_target = lambda *_: None
    get_active_torch_device = get_benchmarker = lambda *_: None
