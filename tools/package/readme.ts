/* The README of the package: for the operator who has nothing but the tarball. */
import type { Options, Project } from './contents';

/** The package's README as Markdown. */
export function packageReadme({ name, version }: Project, { target, node }: Options): string {
  const runtime =
    node === undefined
      ? `This package holds no Node. It wants 20.15 or later, for this platform, in a place that outlives a
reboot. Name it once: \`./smf/install --node DIR\`, where \`DIR/bin/node\` is the program (a pkgsrc Node is
\`/opt/local\`). The script keeps a link to it as \`/opt/mdatad/node\`.`
      : 'This package holds its own Node; nothing else is needed.';
  return `# ${name} ${version} for ${target}

The metadata agent of a SmartOS global zone, ready to install. It takes the place of the platform's own
agent (\`svc:/system/smartdc/metadata:default\`), which stays on the node and can be had back at any time.

## Node

${runtime}

## Install

In the global zone, as root:

    gzip -dc ${name}-${version}.tgz | tar xf -
    cd ${name}-${version}
    ./smf/install --dry-run        # what would be done
    ./smf/install
    /opt/mdatad/bin/mdatactl status

The script refuses with its reason where mdatad cannot run. When mdatad does not come up, it puts the
platform's agent back and says so. It may be run again.

    ./smf/upgrade      from the newer package; goes back to the release before when the new one does not come up
    ./smf/uninstall    gives the zones back to the platform's agent; --purge removes settings and Node too

All three take \`--dry-run\`, and \`--root DIR\` to work below a simulated node's root.

## Where things are

| Path | What |
| --- | --- |
| \`/opt/mdatad/current\` | the release in force, a link into \`versions/\` |
| \`/opt/mdatad/bin\` | mdatad, mdatactl, mdata-get and its kind |
| \`/opt/mdatad/man\` | manual pages: \`man -M /opt/mdatad/man mdatad\` |
| \`/opt/mdatad/current/completion/mdatad.bash\` | completion for bash: source it |
| \`/opt/mdatad/etc/mdatad.json\` | settings of this site; outlives reboots and upgrades |
| \`/opt/custom/smf/mdatad*.xml\` | the manifests, imported at each boot |
| \`/var/svc/log/site-mdatad:default.log\` | the log: \`tail -f\` it through \`bunyan\` |

## Reboots

The root file system of SmartOS is a RAM disk. At each boot the node imports the manifests in
\`/opt/custom/smf\`; \`svc:/site/mdatad-takeover\` disables the platform's agent, and \`svc:/site/mdatad\` starts.
Settings changed with \`svccfg -s mdatad setprop config/NAME=VALUE\` and \`svcadm refresh mdatad\` hold until the
reboot; those in \`/opt/mdatad/etc/mdatad.json\` hold for good, and win.

## Native code

Compiled code is in the package when it was made on the platform that it is for. To build it, take the
sources to a SmartOS zone with a compiler, Python and Node 20, and there:

    npm ci && npm run build && npm run package

`;
}
