/* What a brand's hook may say a zone came to; the agent looks for itself anyway. */

export const NOTIFY_STATES = [
  'created',
  'configured',
  'incomplete',
  'installed',
  'ready',
  'running',
  'shutting_down',
  'down',
  'halted',
  'changed',
  'deleted',
] as const;
