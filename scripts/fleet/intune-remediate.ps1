# Intune remediations, remediation script: `qs-certs install`, which changes nothing the second time.
#
# Exit code: that of `qs-certs install`; 0 is success, anything else shows as "Failed".
#   127   there is no qs-certs, and $Package names none that pipx could install
# Output: one line of at most 2,048 characters.  Nothing goes to standard error, which Intune would
# take for an error of the script.
#
# Settings: as for intune-detect.ps1.
#
# For Windows PowerShell 5.1 and newer.  Our tests parse it, and do not run it.

# Options of `qs-certs install`, such as @('--offline').
$Options = @()

# Where qs-certs is missing and pipx is there: what pipx installs for the user who runs this, such as
# a wheel on a share or a name in your index; or nothing.
$Package = ''

# --- the same in both scripts ---------------------------------------------------------------------

# No letter outside ASCII passes between two programs that disagree on the code page.
$env:PYTHONIOENCODING = 'ascii:backslashreplace'

# What starts qs-certs, as a command and the words before its own; nothing where it is missing.
function Find-Program {
    $folders = @(
        "$env:ProgramW6432\qs-certs",              # where you put the single file for all users
        "$env:LOCALAPPDATA\qs-certs-app\bin",      # scripts/onboard.py
        "$env:USERPROFILE\.local\bin"              # pipx, uv
    )
    if ($env:PIPX_BIN_DIR) { $folders += $env:PIPX_BIN_DIR }
    $candidates = @('qs-certs')
    foreach ($folder in $folders) {
        $candidates += "$folder\qs-certs.exe"
        $candidates += "$folder\qs-certs.cmd"
    }
    foreach ($candidate in $candidates) {
        $found = Get-Command -Name $candidate -CommandType Application -ErrorAction SilentlyContinue
        if ($found) { return @($found)[0].Path }
    }
    # Python would import from the folder that it is started in.
    Set-Location -LiteralPath $env:SystemRoot
    $py = Get-Command -Name 'py.exe' -CommandType Application -ErrorAction SilentlyContinue
    if ($py) {
        $py = @($py)[0].Path
        # It ends with 1 where it has no qs-certs, and 1 has a meaning of its own.
        $null = & $py -3 -m qs_certs --version 2>&1
        if ($LASTEXITCODE -eq 0) { return @($py, '-3', '-m', 'qs_certs') }
    }
}

# SYSTEM works on all accounts, anybody else on their own.
function Get-Everybody {
    if ([Security.Principal.WindowsIdentity]::GetCurrent().IsSystem) { return '--all-users' }
}

# Runs qs-certs; its output and talk as one line of at most 2,048 characters.  See $LASTEXITCODE.
function Invoke-Program([string[]] $Program, [string[]] $Words) {
    $command = $Program[0]
    $arguments = @($Program | Select-Object -Skip 1) + $Words
    $said = & $command @arguments 2>&1 | ForEach-Object { "$_" }
    $line = $said -join '; '
    if ($line.Length -gt 2048) { $line = $line.Substring(0, 2045) + '...' }
    return $line
}

# --------------------------------------------------------------------------------------------------

function Install-Program {
    $pipx = Get-Command -Name 'pipx' -CommandType Application -ErrorAction SilentlyContinue
    if ($pipx -and $Package) { return Invoke-Program @(@($pipx)[0].Path) @('install', $Package) }
    return 'nothing here can install it: set $Package, or deploy the program first'
}

$program = @(Find-Program)
if (-not $program) {
    $said = Install-Program
    $program = @(Find-Program)
    if (-not $program) {
        Write-Output "qs-certs: not installed: $said"
        exit 127
    }
}
$everybody = @(Get-Everybody)
if ($Options -contains '--user' -or $Options -contains '--target') { $everybody = @() }
Write-Output (Invoke-Program $program (@('install') + $everybody + $Options))
exit $LASTEXITCODE
