// All that a system test needs, under one name.
export * from './http.mjs';
export * from './margay.mjs';
export * from './metrics.mjs';
export * from './process.mjs';
export * from './upstreams.mjs';
