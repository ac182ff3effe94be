# Intune remediations, detection script: do the root files lack what `qs-certs install` would put in?
#
# Exit code: that of `qs-certs check`.
#   0                 compliant
#   1                 remediate: `qs-certs install` would help, or there is no qs-certs at all
#   2, 3, 4, 5, 70    no remediation: only a person can help, or nobody can tell now.  Intune counts
#                     these as "without issues", so read the pre-remediation output: 3 and 5 begin
#                     with "qs-certs: action-needed", 4 with "qs-certs: unknown"
# Output: one line of at most 2,048 characters.
#
# Settings: "Run this script using the logged-on credentials: Yes" works on that user's file, "No"
# (SYSTEM) on those of all users, and then runs $ForSystem alone.  "Run script in 64-bit PowerShell:
# Yes".  "Enforce script signature check: No", unless you sign it: it is ASCII without a byte order
# mark, as signing needs.
#
# For Windows PowerShell 5.1 and newer.  Our tests parse it, and do not run it.

# --- the same in both scripts ---------------------------------------------------------------------

# No letter outside ASCII passes between two programs that disagree on the code page.
$env:PYTHONIOENCODING = 'ascii:backslashreplace'

# What SYSTEM runs, and nothing else: the single file, in a folder that only administrators can write
# to.  SYSTEM looks on no PATH and in no profile, where others can put a program of that name.
$ForSystem = "$env:ProgramW6432\qs-certs\qs-certs.exe"

# Who may change it: SYSTEM, administrators, Windows' own installer.
$Trusted = @(
    'S-1-5-18',
    'S-1-5-32-544',
    'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464'
)

# The rights to write to a file or into a folder, to delete, to change rights or the owner: of
# FileSystemRights 0x2, 0x4, 0x10, 0x40, 0x100, 0x10000, 0x40000, 0x80000; generic all and write.
$Changing = 0x500D0156

function Test-System {
    return [Security.Principal.WindowsIdentity]::GetCurrent().IsSystem
}

# Why SYSTEM must not run a program; nothing where only those who are trusted can change it and the
# folders above it.  The drive itself is left out: there anybody may make folders, but not move ours.
function Get-Refusal([string] $Program) {
    try {
        $place = $Program
        while (Split-Path -Path $place -Parent) {
            $item = Get-Item -LiteralPath $place -Force -ErrorAction Stop
            if ($item.Attributes -band [IO.FileAttributes]::ReparsePoint) { return "$place is a link" }
            $acl = Get-Acl -LiteralPath $place -ErrorAction Stop
            $owner = $acl.GetOwner([Security.Principal.SecurityIdentifier]).Value
            if ($Trusted -notcontains $owner) { return "$place belongs to $owner" }
            $rules = $acl.GetAccessRules($true, $true, [Security.Principal.SecurityIdentifier])
            foreach ($rule in $rules) {
                $who = $rule.IdentityReference.Value
                if ("$($rule.AccessControlType)" -ne 'Allow' -or $Trusted -contains $who) { continue }
                # It is for what is made in a folder, not for the folder.
                if ([int] $rule.PropagationFlags -band 2) { continue }
                if ([int] $rule.FileSystemRights -band $Changing) { return "$who can change $place" }
            }
            $place = Split-Path -Path $place -Parent
        }
    } catch {
        return "$_"
    }
}

# What starts qs-certs, as a command and the words before its own; nothing where it is missing.
function Find-Program {
    if (Test-System) {
        if (Get-Refusal $ForSystem) { return }
        return $ForSystem
    }
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
    if (Test-System) { return '--all-users' }
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

$program = @(Find-Program)
if (-not $program) {
    $why = ''
    if (Test-System) { $why = ": $(Get-Refusal $ForSystem)" }
    Write-Output "qs-certs: not installed$why"
    exit 1
}
Write-Output (Invoke-Program $program (@('check', '--format', 'intune') + @(Get-Everybody)))
exit $LASTEXITCODE
