/*
 * The alert rules and the dashboard that operators load, against promtool and the metrics of a real agent.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join, resolve } from 'node:path';
import { isJsonObject, parseJsonObject } from '../../src/metadata/vm-data';
import { adminSocketOf, askAdmin } from '../support/admin';
import { AgentProcess } from '../support/guest-agent';
import { needs } from '../support/pending';
import { parseExposition } from '../support/prometheus';
import { SimNode, whyNoNode } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const DIRECTORY = resolve(__dirname, '..', '..', '..', 'smf', 'prometheus');
const RULES = join(DIRECTORY, 'mdatad.rules.yml');
const DASHBOARD = join(DIRECTORY, 'grafana-dashboard.json');

function promtool(args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  assert.strictEqual(status, 0, `promtool ${args.join(' ')}: ${stdout}${stderr}`);
  return stderr + stdout;
}

function whyNoPromtool(): string | null {
  return spawnSync('promtool', ['--version']).status === 0 ? null : 'needs promtool';
}

/** The metric names in a PromQL expression: those of ours and the standard process metrics. */
function metricsIn(text: string): string[] {
  return [...text.matchAll(/\b(mdatad_\w+|process_\w+)/g)].map(([, name = '']) => name);
}

function queriesOf(dashboard: unknown): string[] {
  if (Array.isArray(dashboard)) {
    return dashboard.flatMap(queriesOf);
  }
  if (!isJsonObject(dashboard)) {
    return [];
  }
  return Object.entries(dashboard).flatMap(([name, value]) =>
    (name === 'expr' || name === 'query') && typeof value === 'string' ? [value] : queriesOf(value),
  );
}

/** Scrapes as a server that speaks OpenMetrics does. */
function scrapeOpenMetrics(socketPath: string): Promise<{ type: string; text: string }> {
  const headers = { Accept: 'application/openmetrics-text; version=1.0.0, text/plain;q=0.5' };
  return new Promise((done, failed) => {
    get({ socketPath, path: '/metrics', headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => done({ type: response.headers['content-type'] ?? '', text }));
    }).on('error', failed);
  });
}

describe('the files for Prometheus and Grafana', function () {
  this.timeout(60_000);
  let node: SimNode | null = null;
  let agent: AgentProcess | null = null;
  let root = '';
  let exposed = '';

  before(async function () {
    needs(this, whyNoNode());
    needs(this, whyNoPromtool());
    node = await SimNode.start({ vms: [vmObject(zonenameOf(1), {})] });
    root = node.root;
    agent = await AgentProcess.start(root);
    exposed = (await askAdmin(root, '/metrics')).text;
  });

  after(async () => {
    await agent?.stop();
    await node?.stop();
  });

  it('are fed by metrics that promtool finds nothing wrong with', () => {
    assert.strictEqual(promtool(['check', 'metrics'], exposed), '');
  });

  it('find a sample in every metric of an agent that has answered nothing yet', () => {
    const { types, samples } = parseExposition(exposed);
    const sampled = samples.map(({ name }) => name);
    const empty = [...types.keys()].filter((name) => !sampled.some((s) => s.startsWith(name)));
    assert.deepStrictEqual(empty, []);
  });

  it('can be fed in the OpenMetrics format', async () => {
    const { type, text } = await scrapeOpenMetrics(adminSocketOf(root));
    assert.match(type, /^application\/openmetrics-text/);
    assert(text.endsWith('# EOF\n'));
    assert.match(text, /^# TYPE mdatad_requests counter$/m);
    assert.match(text, /^mdatad_requests_total\{verb="GET",outcome="SUCCESS"\} \d+$/m);
  });

  it('have alert rules that fire when they should, and not before', () => {
    assert.match(promtool(['check', 'rules', RULES]), /\d+ rules found/);
    promtool(['test', 'rules', join(DIRECTORY, 'mdatad.rules.test.yml')]);
  });

  it('query no metric that the agent does not have', () => {
    const known = new Set(parseExposition(exposed).samples.map(({ name }) => name));
    const dashboard = parseJsonObject(readFileSync(DASHBOARD, 'utf8'));
    const asked = [...queriesOf(dashboard), readFileSync(RULES, 'utf8')].flatMap(metricsIn);
    assert(asked.length > 30, 'queries were found');
    assert.deepStrictEqual(
      [...new Set(asked)].filter((name) => !known.has(name)),
      [],
    );
  });
});
