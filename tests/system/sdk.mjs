// The names that the tests take from the official packages, in one place: node_modules stands beside
// this file, so tests in other folders (tests/conformance) import the SDK through it.
export { Client } from '@modelcontextprotocol/sdk/client/index.js';
export { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
export { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
export { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
export { Server } from '@modelcontextprotocol/sdk/server/index.js';
export { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
export { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
export { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
export {
	CallToolRequestSchema,
	CompleteRequestSchema,
	CreateMessageRequestSchema,
	CreateMessageResultSchema,
	ElicitRequestSchema,
	ElicitResultSchema,
	GetPromptRequestSchema,
	isInitializeRequest,
	ListPromptsRequestSchema,
	ListRootsRequestSchema,
	ListResourcesRequestSchema,
	ListResourceTemplatesRequestSchema,
	ListToolsRequestSchema,
	LoggingMessageNotificationSchema,
	ReadResourceRequestSchema,
	ResourceUpdatedNotificationSchema,
	ResultSchema,
	SubscribeRequestSchema,
	ToolListChangedNotificationSchema,
	UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';

// The second generation of the SDK, which speaks 2026-07-28; its names are often those of the first.
import * as server from '@modelcontextprotocol/server';
import * as stdio from '@modelcontextprotocol/server/stdio';
export const modern = { ...server, ...stdio };
import * as client from '@modelcontextprotocol/client';
import * as stdioClient from '@modelcontextprotocol/client/stdio';
export const modernClient = { ...client, ...stdioClient };
