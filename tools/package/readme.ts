/* The README of the package: for the operator who has nothing but the tarball. */
import { baseNameOf, type Options, type Project } from './project';

/** The package's README as Markdown. */
export function packageReadme(project: Project, options: Options): string {
  const { name, version } = project;
  const { target, node } = options;
  const base = baseNameOf(project, options);
  const runtime =
    node === undefined
      ? `This package holds no Node. mdatad wants 20.15 or later, 64-bit, in a place that outlives a reboot. That of
pkgsrc-tools, the pkgsrc of the global zone, is found by itself at \`/opt/tools/bin/node\`; another one is named once,
\`./smf/install --node DIR\`, and kept as a link at \`/opt/mdatad/node\`.`
      : 'This package holds its own Node with its libraries; nothing else is needed.';
  return `# ${name} ${version} for ${target}

The metadata agent of a SmartOS global zone, ready to install. It takes the place of the platform's own
agent (\`svc:/system/smartdc/metadata:default\`), which stays on the node and can be had back at any time.

## Node

${runtime}

## Install

In the global zone, as root:

    digest -a sha256 ${base}.tgz      # as in ${base}.tgz.sha256
    gzip -dc ${base}.tgz | tar xf -
    cd ${base}
    ./bin/mdatactl preflight       # proves on this node what mdatad relies on, and changes nothing
    ./bin/mdatactl compare         # the answers of the agent that is there, and ours
    ./smf/install --dry-run        # the steps
    ./smf/install

The script runs preflight again and refuses with its reason where mdatad cannot run. When mdatad does not come up,
it puts the platform's agent back and says so. It may be run again.

    ./smf/upgrade                        from the newer package
    /opt/mdatad/current/smf/rollback     back to the release before
    ./smf/uninstall                      gives the zones back; --purge removes settings and Node too

All take \`--dry-run\`, and \`--root DIR\` to work below a simulated node's root. \`smf/README.md\` tells what each does,
what happens at boot, and what to do when something is wrong.

## Where things are

| Path | What |
| --- | --- |
| \`/opt/mdatad/current\` | the release in force, a link into \`versions/\` |
| \`/opt/mdatad/bin\` | mdatad, mdatactl, mdata-get and its kind |
| \`/opt/mdatad/man\` | manual pages: \`man -M /opt/mdatad/man mdatad\` |
| \`/opt/mdatad/current/completion/mdatad.bash\` | completion for bash: source it |
| \`/opt/mdatad/current/completion/mdatad.zsh\` | completion for zsh: source it |
| \`/opt/mdatad/etc/mdatad.json\` | settings of this site; \`mdatad.json.example\` beside it shows all |
| \`/opt/custom/smf/mdatad*.xml\` | the manifests, imported at each boot |
| \`/var/svc/log/site-mdatad:default.log\` | the log: \`tail -f\` it through \`bunyan\` |

## Native code

A package holds compiled code for the platform that it was made on. To make one, take a clone of the project to a
SmartOS zone, and there:

    pkgin install nodejs npm gcc13 gmake python312
    npm run package

`;
}
