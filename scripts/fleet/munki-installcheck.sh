#!/bin/sh
# Munki, installcheck_script: is there something to install?  The answer is an inverted exit code.
#
# 0   yes: `qs-certs install` would help, or there is no qs-certs at all
# 1   no: every root file is as it should be, or only a person can help, or nobody can tell now;
#     what it was is on standard output, which Munki logs
#
# Goes with install.sh as the item's postinstall_script.

# --- the same in every script of this folder ------------------------------------------------------

# Agents start scripts with a short PATH.  Root runs only a program that nobody else can change: it,
# what a link leads to, its interpreter and every folder above them are root's, and writable by root
# alone.  Homebrew, for one, gives its folders to whoever installed it.
find_program() {
    for program in "$(command -v qs-certs)" /usr/local/bin/qs-certs /opt/homebrew/bin/qs-certs \
        "${HOME:-}/.local/bin/qs-certs"; do
        [ -x "$program" ] || continue
        [ "$(id -u)" -ne 0 ] || [ -z "$(strangers "$program")" ] || continue
        return 0
    done
    echo "qs-certs is not installed"
    return 127
}

# What somebody else than root can change, of all that decides what a program does.
strangers() {
    changeable "$1"
    line=$(head -n 1 "$1" | tr -d '\000')
    case $line in
    '#!'*)
        line=${line#??}
        line=${line# }
        changeable "${line%% *}"
        ;;
    *) return ;;
    esac
    case $line in
    */env\ *) # looks on PATH
        line=${line#*/env }
        changeable "$(command -v "${line%% *}")"
        ;;
    *) ;;
    esac
    # What installers write where the path is too long for the first line, or holds a space.
    line=$(sed -n "2s/^'''exec' //p" "$1")
    case $line in
    '') ;;
    \"*)
        line=${line#?}
        changeable "${line%%\"*}"
        ;;
    \'*)
        line=${line#?}
        changeable "${line%%\'*}"
        ;;
    *) changeable "${line%% *}" ;;
    esac
}

changeable() {
    place=$1
    while :; do
        folder=$(CDPATH='' cd -P "${place%/*}/" && pwd -P) || echo "$place"
        above=$folder
        while [ -n "$above" ]; do
            writable "$above"
            above=${above%/*}
        done
        [ -h "$place" ] || break
        link=$(readlink "$place")
        case $link in
        /*) place=$link ;;
        *) place=$folder/$link ;;
        esac
    done
    writable "$place"
}

# In a sticky folder, such as /tmp, nobody replaces what is root's.
writable() {
    find "$1" -prune \( ! -user 0 -o \( -perm -0002 -o -perm -0020 ! -group 0 \) \
        ! \( -type d -perm -1000 \) \) 2>&1
}

# Root works on all accounts, anybody else on their own.
everybody() {
    [ "$(id -u)" -ne 0 ] || printf '%s\n' --all-users
}

# --------------------------------------------------------------------------------------------------

find_program || exit 0
accounts=$(everybody)
"$program" check --format intune ${accounts:+"$accounts"}
[ "$?" -ne 1 ] || exit 0
exit 1
