# Shared by scripts/demo and scripts/test: what a fresh Debian or Ubuntu machine lacks. Sourced, not run.

# What Qt and OpenGL load at run time. libglib2.0-bin stands for glib itself, whose name differs between releases.
SCREEN_PACKAGES="fontconfig libglib2.0-bin libgl1 libegl1 libopengl0 libglx-mesa0 libgl1-mesa-dri libxkbcommon-x11-0
    libdbus-1-3 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
    libxcb-shape0 libxcb-xinerama0 libxcb-xkb1"

has_display() {
    [[ "$(uname)" != Linux || -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]]
}

# need_screen_libraries [more packages]: install the system libraries that are missing, or name the command.
need_screen_libraries() {
    command -v dpkg-query >/dev/null || return 0 # no Debian: trust the machine
    local missing=()
    local package
    for package in $SCREEN_PACKAGES "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    install_packages "${missing[@]}"
}

install_packages() {
    local as_root=()
    if [[ $EUID -ne 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            echo "Some system packages are missing and need an administrator. Run this, then start again:" >&2
            echo "  sudo apt-get install -y $*" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "Installing system packages: $*" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need_python_environment FOLDER: make a virtual environment there, unless it is there and works.
need_python_environment() {
    local folder=$1 python=""
    [[ -x "$folder/bin/python" ]] && "$folder/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    for python in python3.11 python3.12 python3.13 python3; do
        command -v "$python" >/dev/null || continue
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
        python=""
    done
    if [[ -z "$python" ]]; then
        echo "Python 3.11 or newer is missing. Install it, e.g.: sudo apt-get install -y python3 python3-venv" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --upgrade pip
}
